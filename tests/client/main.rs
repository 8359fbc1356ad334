//! Several clients and a server, all real but the network, the disk and the clock.

mod chat;
mod directs;
mod files;
mod ghost;
mod hostile;
mod model;
mod resume;
mod scripts;
mod world;
