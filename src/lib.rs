//! secchat
#![forbid(unsafe_code)]
