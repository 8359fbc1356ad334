//! Servers that link over real TLS on loopback: who gets in, who does not, and who is cut off.

mod harness;
mod meeting;
mod strangers;
