//! TLS, framed streams and the client's link to a server. IO.

pub mod framed;
pub mod hello;
pub mod link;
pub mod pem;
pub mod queue;
pub mod stun;
pub mod tls;
pub mod trust;
pub mod verify;
