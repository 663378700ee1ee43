//! Randomness, of which the slots have none of their own.

/// What epochs are made of.
pub(crate) fn entropy() -> u128 {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    u128::from_le_bytes(random)
}
