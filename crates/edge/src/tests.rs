//! The guard, TLS, enrolment and revocation between real roles on loopback, with a clock that is turned by hand.

mod enrolment;
mod guarding;
mod probes;
mod public;
mod revoking;
mod world;
