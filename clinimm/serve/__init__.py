"""The web application and the prediction service; filled by a later issue."""
