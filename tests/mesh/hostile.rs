//! What no honest server sends.
