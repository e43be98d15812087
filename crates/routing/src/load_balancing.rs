//! Choice of the destination that a request goes to. Pure: counts and random numbers come in, an index goes out.

/// Rule by which a destination is chosen, named as in YARP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// Two at random, then the one with fewer requests under way.
    #[default]
    PowerOfTwoChoices,
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastRequests,
    /// Any.
    Random,
    /// The first by its id.
    FirstAlphabetical,
}

/// Returns the index of the destination to take; `None` where `in_flight` is empty. `in_flight` has the number of
/// requests under way at each healthy destination, in the order of the file (for `FirstAlphabetical` sorted by id).
/// `turn` grows by one with each choice, `random` is any number.
pub fn choose_destination(policy: LoadBalancing, in_flight: &[usize], turn: usize, random: u64) -> Option<usize> {
    let count = in_flight.len();
    if count == 0 {
        return None;
    }
    let pick = |random: u64, count: usize| usize::try_from(random % count as u64).expect("it is less than a usize");
    Some(match policy {
        LoadBalancing::FirstAlphabetical => 0,
        LoadBalancing::RoundRobin => turn % count,
        LoadBalancing::Random => pick(random, count),
        // Among equals, each in its turn: an idle cluster would else send everything to the first.
        LoadBalancing::LeastRequests => {
            let from = turn % count;
            (from..count).chain(0..from).min_by_key(|&index| in_flight[index]).expect("there is at least one")
        }
        LoadBalancing::PowerOfTwoChoices if count == 1 => 0,
        LoadBalancing::PowerOfTwoChoices => {
            // The low half of the random number decides the first pick, the high half the second.
            let one = pick(random & u64::from(u32::MAX), count);
            // Any but the first choice: the distance to it is 1 to count - 1.
            let two = (one + 1 + pick(random >> 32, count - 1)) % count;
            if in_flight[two] < in_flight[one] { two } else { one }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{LoadBalancing, choose_destination};

    const ALL: [LoadBalancing; 5] = [
        LoadBalancing::PowerOfTwoChoices,
        LoadBalancing::RoundRobin,
        LoadBalancing::LeastRequests,
        LoadBalancing::Random,
        LoadBalancing::FirstAlphabetical,
    ];

    #[test]
    fn nothing_can_be_chosen_of_none() {
        for policy in ALL {
            assert_eq!(choose_destination(policy, &[], 3, 7), None, "{policy:?}");
        }
    }

    #[test]
    fn each_policy_chooses_its_own_way() {
        let cases: [(LoadBalancing, &[usize], usize, u64, usize); 10] = [
            (LoadBalancing::RoundRobin, &[9, 0, 0], 3, 0, 0),
            (LoadBalancing::RoundRobin, &[9, 0, 0], usize::MAX, 0, usize::MAX % 3),
            (LoadBalancing::FirstAlphabetical, &[9, 0, 0], 2, 2, 0),
            (LoadBalancing::Random, &[0, 0, 0], 0, 5, 2),
            (LoadBalancing::LeastRequests, &[3, 1, 2], 0, 0, 1),
            (LoadBalancing::LeastRequests, &[1, 1, 2], 1, 0, 1),
            (LoadBalancing::LeastRequests, &[1, 1, 2], 2, 0, 0),
            (LoadBalancing::PowerOfTwoChoices, &[5, 1], 0, 0, 1),
            (LoadBalancing::PowerOfTwoChoices, &[1, 5], 0, 1, 0),
            (LoadBalancing::PowerOfTwoChoices, &[2, 2, 2], 0, 2, 2),
        ];
        for (policy, in_flight, turn, random, expected) in cases {
            assert_eq!(choose_destination(policy, in_flight, turn, random), Some(expected), "{policy:?} {in_flight:?}");
        }
    }

    proptest! {
        #[test]
        fn the_choice_is_always_one_of_them(load in proptest::collection::vec(0_usize..9, 1..9), turn: usize, random: u64) {
            for policy in ALL {
                prop_assert!(choose_destination(policy, &load, turn, random).is_some_and(|index| index < load.len()));
            }
        }

        #[test]
        fn the_busiest_of_two_is_never_taken(random in any::<u64>()) {
            prop_assert_eq!(choose_destination(LoadBalancing::PowerOfTwoChoices, &[7, 3], 0, random), Some(1));
        }
    }
}
