//! A client: joins, leaves, publishes, goes and comes back, and holds what it receives against what it may expect.
//!
//! Some are stock Phoenix clients and must never see anything else (section 10 of the wire). Others ask for positions:
//! they come back to where they were, repeat what was not answered under the same id, and are told what they miss.
//! *Invariant:* what it does is drawn from its own sequence and from what it was told.
//! Leaves out: frames (`frames`), what it makes of them (`reading`), what it publishes (`publishing`).

mod channel;
mod frames;
mod publishing;
mod reading;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use self::channel::{Asked, Channel, Waiting};
use self::frames::Frames;
use self::publishing::Draft;
use crate::check::View;
use crate::env::Env;
use crate::random::Random;
use crate::time::Time;
use crate::wire::{Event, FromClient, Life, Urge};

pub(crate) use self::channel::Place;
pub(crate) use self::publishing::EPHEMERAL;

/// Topics it joins at most.
const CHANNELS_MAX: usize = 4;

/// How busy clients are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Temper {
    /// Between two acts, on average.
    pub(crate) pause_ms: u64,
    /// How many topics there are.
    pub(crate) topics: usize,
    /// Publishes in one act at most.
    pub(crate) burst: u64,
}

/// What clients do that stock ones do not, in millionths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Habits {
    /// Of clients: they ask for positions.
    pub(crate) resuming: u32,
    /// Of publishes: they have an id.
    pub(crate) ids: u32,
    /// Of those: the id is one that was used before.
    pub(crate) repeats: u32,
    /// Of publishes: they are not for every member.
    pub(crate) aims: u32,
    /// Two and two clients have one subject.
    pub(crate) shared_subjects: bool,
    /// Of acts: the client begins to read slowly, or stops to.
    pub(crate) stalls: u32,
    /// How slowly.
    pub(crate) read_bytes_per_second: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    random: Random,
    temper: Temper,
    habits: Habits,
    /// It asks for positions.
    resumes: bool,
    /// Who authentication says it is.
    subject: String,
    /// The connection, numbered over all clients; 0: none.
    pub(crate) connection: u64,
    /// Where it leads.
    pub(crate) gateway: Option<Life>,
    incoming: Frames,
    /// The connection reads slowly, or did.
    slow: bool,
    was_slow: bool,
    channels: BTreeMap<usize, Channel>,
    waiting: BTreeMap<u64, Waiting>,
    last_ref: u64,
    published: u64,
    /// Publishes of this connection.
    sent: u64,
    /// Topics it is to be joined to, whatever becomes of connections.
    wanted: BTreeSet<usize>,
    /// Where it was in topics it has joined.
    positions: BTreeMap<usize, View>,
    /// Publishes with ids whose outcome it wants to know, by number.
    drafts: BTreeMap<u64, Draft>,
    /// Those of them that are to be sent again.
    again: VecDeque<u64>,
    /// Ids it has used, by topic.
    used: BTreeMap<usize, Vec<String>>,
    /// It does nothing more by itself.
    pub(crate) calm: bool,
}

impl Client {
    /// One that is not connected yet.
    #[must_use]
    pub(crate) fn new(seed: u64, number: usize, temper: Temper, habits: Habits) -> Client {
        // A sequence of its own, so that what clients ask for does not change when they come and go.
        let mut of_habits = Random::new(seed, 2000 + number as u64);
        Client {
            number,
            random: Random::new(seed, 1000 + number as u64),
            temper,
            habits,
            resumes: of_habits.chance(habits.resuming),
            subject: if habits.shared_subjects {
                format!("user-{}", number / 2)
            } else {
                String::new()
            },
            connection: 0,
            gateway: None,
            incoming: Frames::default(),
            slow: false,
            was_slow: false,
            channels: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_ref: 0,
            published: 0,
            sent: 0,
            wanted: BTreeSet::new(),
            positions: BTreeMap::new(),
            drafts: BTreeMap::new(),
            again: VecDeque::new(),
            used: BTreeMap::new(),
            calm: false,
        }
    }

    /// It does what is next.
    pub(crate) fn urge(&mut self, env: &mut Env, connection: u64, urge: Urge, gateways: &[Life]) {
        match urge {
            Urge::Connect if self.gateway.is_none() => self.connect(env, gateways),
            Urge::Lost if connection == self.connection && self.gateway.is_some() => self.lost(env),
            Urge::Act if connection == self.connection && self.gateway.is_some() => {
                // What it wanted it still wants when it is calm.
                if self.resumes {
                    self.take_up(env);
                }
                if self.calm && !self.resumes {
                    return;
                }
                if !self.calm {
                    self.act(env);
                }
                let pause = self.random.between(1, 2 * self.temper.pause_ms);
                let at = env.now + Duration::from_millis(pause);
                env.at(at, Event::Urge(self.number, connection, Urge::Act));
            }
            Urge::Connect | Urge::Lost | Urge::Act => {}
        }
    }

    /// From now on it only ends what it has begun.
    pub(crate) fn calm_down(&mut self, env: &mut Env) {
        self.calm = true;
        if self.slow {
            self.read(env, false);
        }
    }

    fn connect(&mut self, env: &mut Env, gateways: &[Life]) {
        let Some(gateway) = self.random.pick(gateways).copied() else {
            return self.come_back(env);
        };
        self.connection = env.fresh_number();
        self.gateway = Some(gateway);
        let subject = Bytes::copy_from_slice(self.subject.as_bytes());
        self.send(env, FromClient::Open(subject));
        let at = env.now + Duration::from_millis(self.random.between(5, 200));
        env.at(at, Event::Urge(self.number, self.connection, Urge::Act));
    }

    /// The connection is gone; it comes back after a while, to whichever gateway there is.
    pub(crate) fn lost(&mut self, env: &mut Env) {
        self.gateway = None;
        self.channels.clear();
        (self.slow, self.was_slow, self.sent) = (false, false, 0);
        self.incoming = Frames::default();
        // Publishes without an id that are not answered have an unknown outcome for ever.
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            if let Waiting::Publish(_, id) = waiting {
                self.send_again(id);
            }
        }
        self.come_back(env);
    }

    fn come_back(&mut self, env: &mut Env) {
        let at = env.now + Duration::from_millis(self.random.between(10, 1_500));
        env.at(at, Event::Urge(self.number, 0, Urge::Connect));
    }

    /// Joins again what it is to be joined to, and sends again what was not answered.
    fn take_up(&mut self, env: &mut Env) {
        let absent: Vec<usize> = self
            .wanted
            .iter()
            .filter(|topic| !self.channels.contains_key(topic))
            .copied()
            .collect();
        for topic in absent {
            self.join(env, topic);
        }
        for number in std::mem::take(&mut self.again) {
            self.repeat(env, number);
        }
    }

    fn act(&mut self, env: &mut Env) {
        if self.random.chance(self.habits.stalls) {
            self.read(env, !self.slow);
        }
        let joined: Vec<usize> = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.joined.is_some())
            .map(|(topic, _)| *topic)
            .collect();
        let topic = usize::try_from(self.random.below(self.temper.topics as u64)).unwrap_or(0);
        match (self.random.below(100), self.random.pick(&joined).copied()) {
            (0..70, Some(topic)) => {
                for _ in 0..=self.random.below(self.temper.burst) {
                    self.publish(env, topic);
                }
            }
            (70..76, Some(topic)) => self.leave(env, topic),
            (76..78, Some(topic)) => self.join(env, topic),
            (78, Some(_)) => {
                self.send(env, FromClient::Close);
                self.lost(env);
            }
            _ if self.channels.len() < CHANNELS_MAX && !self.channels.contains_key(&topic) => {
                self.join(env, topic);
            }
            _ => {}
        }
    }

    fn join(&mut self, env: &mut Env, topic: usize) {
        if self
            .waiting
            .values()
            .any(|waiting| *waiting == Waiting::Leave(topic))
        {
            return;
        }
        self.last_ref += 1;
        let reference = self.last_ref;
        let asked = self.ask(topic);
        let name = topic_name(topic);
        let payload = asked.payload();
        if self.resumes {
            self.wanted.insert(topic);
        }
        self.waiting.insert(reference, Waiting::Join(topic, asked));
        self.channels
            .entry(topic)
            .and_modify(|channel| channel.rejoining = Some(reference))
            .or_insert(Channel::joining(reference));
        self.text(
            env,
            format!("[\"{reference}\",\"{reference}\",\"{name}\",\"phx_join\",{payload}]"),
        );
    }

    /// What a join is to ask for: mostly to go on where it was, and now and then what makes no sense.
    fn ask(&mut self, topic: usize) -> Asked {
        if !self.resumes {
            return Asked::Nothing;
        }
        let Some(view) = self.positions.get(&topic).cloned() else {
            return Asked::Now;
        };
        match self.random.below(100) {
            0..3 => Asked::Now,
            3..5 => Asked::After {
                view: View::new(&String::from_utf8_lossy(&view.epoch), view.offset + 100_000),
                genuine: false,
            },
            5 => Asked::After {
                view: View::new("made-up", view.offset),
                genuine: false,
            },
            6 => {
                // That of another topic.
                let view = self.positions.values().next().cloned().unwrap_or(view);
                Asked::After { view, genuine: false }
            }
            _ => Asked::After { view, genuine: true },
        }
    }

    fn leave(&mut self, env: &mut Env, topic: usize) {
        let Some(channel) = self
            .channels
            .get(&topic)
            .filter(|channel| channel.rejoining.is_none())
        else {
            return;
        };
        let join_ref = channel.join_ref;
        self.last_ref += 1;
        let (reference, name) = (self.last_ref, topic_name(topic));
        self.waiting.insert(reference, Waiting::Leave(topic));
        self.wanted.remove(&topic);
        self.text(
            env,
            format!("[\"{join_ref}\",\"{reference}\",\"{name}\",\"phx_leave\",{{}}]"),
        );
    }

    /// It reads slowly from now on, or as fast as it can.
    fn read(&mut self, env: &mut Env, slowly: bool) {
        self.slow = slowly;
        self.was_slow |= slowly;
        let rate = slowly.then_some(self.habits.read_bytes_per_second);
        self.send(env, FromClient::Read(rate));
    }

    fn text(&mut self, env: &mut Env, text: String) {
        self.send(env, FromClient::Text(Bytes::from(text)));
    }

    fn send(&mut self, env: &mut Env, message: FromClient) {
        if let Some(gateway) = self.gateway {
            let (now, number, connection) = (env.now, self.number, self.connection);
            env.trace.line(now, || {
                format!("client {number} ({connection}) -> {gateway:?} {message:?}")
            });
            let at = env.now + Duration::from_micros(300);
            env.at(at, Event::Client(gateway, self.number, self.connection, message));
        }
    }

    /// Topics that are joined now.
    pub(crate) fn joined(&mut self) -> impl Iterator<Item = (String, Time, &mut Place)> {
        self.channels.iter_mut().filter_map(|(topic, channel)| {
            let joined = channel.joined?;
            Some((topic_name(*topic), joined, &mut channel.place))
        })
    }

    /// What nobody has answered, and what it wants and does not have.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = String> {
        let joining = self.channels.values().filter(|channel| channel.joined.is_none());
        let waiting = self.waiting.values().map(|waiting| format!("{waiting:?}"));
        let absent = self
            .wanted
            .iter()
            .filter(|topic| !self.channels.contains_key(topic));
        waiting
            .chain(joining.map(|channel| format!("joining, ref {}", channel.join_ref)))
            .chain(absent.map(|topic| format!("to be joined to {}", topic_name(*topic))))
            .chain(self.drafts.values().map(|draft| format!("{draft:?}")))
    }
}

/// Both contracts: `topics:*` and broadcast.
#[must_use]
pub(crate) fn topic_name(topic: usize) -> String {
    if is_topics(topic) {
        format!("topics:t{topic}")
    } else {
        format!("room:{topic}")
    }
}

fn is_topics(topic: usize) -> bool {
    topic.is_multiple_of(2)
}

fn topic_number(name: &str) -> Option<usize> {
    let number = name
        .strip_prefix("topics:t")
        .or_else(|| name.strip_prefix("room:"))?;
    number.parse().ok()
}
