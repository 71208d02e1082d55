"""Apache Beam commands: build the dataset, synthesize faces, predict over folders of videos."""
