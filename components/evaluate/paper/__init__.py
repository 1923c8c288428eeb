"""What a paper needs of one evaluation: flow, tables, figures and checklists."""
