//! The mesh's node through its public API: whole networks of servers in virtual time, each from a printed seed.

mod hostile;
mod outages;
mod overload;
mod parcels;
mod quiet;
mod sim;
mod speed;
mod traitors;
mod trees;
mod twins;
