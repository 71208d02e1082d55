"""The methods, one file each; `fer_tf.competitors` names them."""
