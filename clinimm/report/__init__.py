"""What people read: the model card and the patient report."""
