//! Frozen vectors and what decoders make of them: nothing released becomes unreadable, nothing wrong is accepted.

mod seal;
