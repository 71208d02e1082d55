"""report.html."""


def render(dataset, faces):
    return "<html></html>"


def sample_faces(*a):
    return []
