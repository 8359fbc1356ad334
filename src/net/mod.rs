//! TLS, framed streams, the client's link to a server, its UDP port, and the router before that. IO.

pub mod accept;
pub mod candidates;
pub mod clock;
pub mod dial;
pub mod framed;
pub mod hello;
pub mod link;
pub mod listen;
pub mod mapping;
pub mod nearest;
pub mod pem;
pub mod queue;
pub mod received;
pub mod stun;
pub mod survey;
pub mod tls;
pub mod trust;
pub mod udp;
pub mod verify;
