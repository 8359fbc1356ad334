//! Several clients and a server, all real but the network, the disk and the clock.

mod chat;
mod directs;
mod downloads;
mod file_side;
mod files;
mod ghost;
mod hostile;
mod line;
mod mesh;
mod model;
mod modes;
mod offers;
mod operating;
mod resume;
mod scripts;
mod servers;
mod world;
