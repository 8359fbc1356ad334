//! Several clients and a server, all real but the network, the disk and the clock.

mod chat;
mod directs;
mod downloads;
mod file_side;
mod files;
mod ghost;
mod hostile;
mod kicks;
mod line;
mod mesh;
mod model;
mod moderated;
mod modes;
mod offers;
mod operating;
mod relayed;
mod restrictions;
mod resume;
mod scripts;
mod servers;
mod waiting;
mod world;
