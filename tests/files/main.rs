//! Two file sides on one machine, over real UDP.

mod crash;
mod hostile;
mod moves;
mod place;
mod slots;
