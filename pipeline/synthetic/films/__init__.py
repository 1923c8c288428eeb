"""Synthetic films: anatomy, findings, devices, and the DICOM files they are stored in."""
