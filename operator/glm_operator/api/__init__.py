"""The object: pydantic models, CRD rendering, reasons. Pure."""
