//! The ARQ channel through its public API, over a simulated network in virtual time.

mod hostile;
mod outages;
mod seeds;
mod sim;
mod sizes;
