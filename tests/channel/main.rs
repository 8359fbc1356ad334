//! The ARQ channel through its public API, over a simulated network in virtual time.

mod bottleneck;
mod hostile;
mod link;
mod outages;
mod routers;
mod seeds;
mod sim;
mod sizes;
mod travelling;
