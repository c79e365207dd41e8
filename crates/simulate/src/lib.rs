//! Simulations: the journal, its zones and a catalog, over zones that fail in every way, in simulated time, from a seed.
//!
//! Promise: the same seed is the same simulation, to the last step; what it says is wrong can be seen again by its number.
//!
//! Start at [`run`]. The code under test is the real one, but for its zones ([`zones::Zone`]), its time (`base::time`), its clock and
//! its chance. The product over them is a model (`product`), and its catalog the twin that is held equal to the database. What is promised to whom is in `oracle`; which faults can be planted to try the search itself in [`Plant`].
//! Imported by nothing but its own program and tests.

mod chance;
mod chaos;
mod door;
mod ledger;
mod life;
mod oracle;
mod plant;
mod process;
mod product;
mod site;
mod store;
mod story;
mod trace;
mod trade;
mod world;

pub use plant::Plant;
pub use story::{Outcome, run};
