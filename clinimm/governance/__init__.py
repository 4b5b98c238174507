"""The folder ``governance/`` as something that code reads: hazards, change control, evidence documents."""
