"""Speaker identification on the device: a small embedding network, enrolment, and the systems it must beat."""
