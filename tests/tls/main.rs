//! The server link over real TLS on loopback: who gets in, who does not, and who is told nothing.

mod harness;
mod login;
mod pressure;
mod strangers;
