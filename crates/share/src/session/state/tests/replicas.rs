//! The same for a listener at another node than the host's: messages between the nodes come late, and some not at all.

use super::*;

/// Input of the host at one node, a listener at the other, or the way between them.
#[derive(Clone, Copy, Debug)]
enum Step {
    Host(Input),
    Listener(Input),
    /// Messages that come to the listener's node.
    Deliver(usize),
    /// Messages that get lost on their way.
    Lose(usize),
    /// Heartbeat of the listener's node, which asks for audio.
    Heartbeat,
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let codec = prop_oneof![Just(Codec::Opus), Just(Codec::F32)];
    let host = prop_oneof![
        8 => Just(Input::Chunk(0)),
        2 => (-3_i64..4).prop_map(Input::Chunk),
        1 => Just(Input::RestartChunks),
        8 => (1_u32..10).prop_map(|count| Input::Packets { offset: 0, count }),
        // No holes: a backlog has the numbers of packets without any.
        2 => (-40_i32..1, 1_u32..10).prop_map(|(offset, count)| Input::Packets { offset, count }),
        1 => Just(Input::RestartPackets),
    ];
    let listener = prop_oneof![
        3 => codec.clone().prop_map(Input::Toggle),
        2 => codec.prop_map(Input::Behind),
        4 => Just(Input::Transcode),
    ];
    prop_oneof![
        12 => host.prop_map(Step::Host),
        5 => listener.prop_map(Step::Listener),
        10 => (1_usize..6).prop_map(Step::Deliver),
        1 => (1_usize..4).prop_map(Step::Lose),
        5 => Just(Step::Heartbeat),
        6 => (1_u64..400).prop_map(Step::Time),
    ]
}

/// Node of the host, node of the listener, and messages from the first to the second.
struct Pair {
    host: Simulation,
    listener: Simulation,
    way: VecDeque<ReplicaMessage>,
}

impl Pair {
    fn run(&mut self, step: Step) {
        match step {
            Step::Host(input) => self.host.run(input),
            Step::Listener(input) => self.listener.run(input),
            Step::Deliver(count) => {
                for message in self.way.drain(..count.min(self.way.len())).collect::<Vec<_>>() {
                    let from = NodeId::parse("1").expect("a number");
                    self.listener.apply(|state, now, effects| state.receive_message(from, message, now, effects));
                }
            }
            Step::Lose(count) => drop(self.way.drain(..count.min(self.way.len()))),
            Step::Heartbeat => self.heartbeat(),
            Step::Time(passed) => {
                self.host.run(Input::Time(passed));
                self.listener.run(Input::Time(passed));
            }
        }
        self.way.extend(self.host.sent.drain(..));
        self.listener.check_bounds();
    }

    fn heartbeat(&mut self) {
        let (now, start) =
            (self.listener.now, SessionStart { incarnation: Incarnation::from_number(7), at: UnixMillis::EPOCH });
        let report = self.listener.state.replica_report(SessionId::from_number(1), start, now);
        if report.needs_audio {
            let needs = ReplicaMessage::Control(ControlMessage::NeedsAudio { backlog: report.needs_backlog });
            self.host.apply(|state, now, effects| state.receive_message(NodeId::random(), needs, now, effects));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn listeners_at_another_node_hear_nothing_out_of_order_and_nothing_twice(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut pair = Pair { host: Simulation::new(true), listener: Simulation::copy(), way: VecDeque::new() };
        for step in steps {
            pair.run(step);
        }
    }
}
