//! Two file sides on one machine, over real UDP.

mod folders;
mod hostile;
mod moves;
mod place;
mod several;
mod slots;
