//! Two file sides on one machine, over real UDP.

mod crash;
mod folders;
mod hostile;
mod killed;
mod moves;
mod place;
mod rules;
mod several;
mod sizes;
mod slots;
