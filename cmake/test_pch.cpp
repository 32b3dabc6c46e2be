// Exists so that the precompiled header of tests has a target that owns it.
