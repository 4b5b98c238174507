"""What goes home to the PACS and the EHR; filled by a later issue."""
