//! Presigning (SigV4) and the few requests of our own to object storage (LIST, HEAD). Content never passes here.
