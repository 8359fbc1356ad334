//! Sockets. IO.

pub mod udp;
