//! What follows by itself after an input: time-outs, breaches, slots, the next wave. Owns the course
//! of a rollout; never refuses.
