//! Follows the records. Mirrors `Follower` of `ring/store/src/mirror.rs`, and how a watch ends in
//! `ring/store/src/coordinator/client.rs`.

use std::sync::Arc;
use std::time::Duration;

use ringcast_ring_store::Watched;

use super::{Base, CALL_DEADLINE, Following, News, RETRY_MIN};
use crate::env::Env;
use crate::network::STORE;
use crate::wire::{Answer, Event, Pending, Request, StreamNumber, Timer};

const RETRY_MAX: Duration = Duration::from_secs(1);
const LOAD_INTERVAL: Duration = Duration::from_secs(30);
const WATCH_SILENCE: Duration = Duration::from_secs(2);

impl Base {
    pub(super) fn load(&mut self, env: &mut Env) {
        self.following = Following::Loading;
        self.call(env, STORE, Request::Load, Pending::Load, CALL_DEADLINE);
    }

    pub(super) fn loaded(&mut self, env: &mut Env, answer: Option<Answer>) -> Option<News> {
        let loaded = match answer {
            Some(Answer::Loaded(loaded)) if loaded.revision >= self.snapshot.revision => loaded,
            _ => {
                self.follow_later(env);
                return None;
            }
        };
        let news = (*loaded != *self.snapshot).then_some(News::Snapshot);
        if news.is_some() {
            self.snapshot = loaded;
        }
        match &mut self.following {
            Following::Loading => self.watch(env),
            Following::Watching { stream, loading, .. } => {
                let (stream, buffered) = (*stream, loading.take());
                let mut more = news;
                for watched in buffered.unwrap_or_default() {
                    more = self.watched(env, stream, Some(watched)).or(more);
                }
                return more;
            }
            Following::Sleeping => {}
        }
        news
    }

    fn watch(&mut self, env: &mut Env) {
        let stream = StreamNumber(env.fresh_number());
        self.following = Following::Watching {
            stream,
            began: env.now,
            heard: env.now,
            loading: None,
        };
        let request = Request::Watch(stream, self.snapshot.revision);
        self.call(env, STORE, request, Pending::Watch(stream), CALL_DEADLINE);
        env.timer(self.life, self.clock, WATCH_SILENCE, Timer::Silence(stream));
        env.timer(self.life, self.clock, LOAD_INTERVAL, Timer::MirrorLoad(stream));
    }

    /// The watch was opened, or was not.
    pub(super) fn watching(
        &mut self,
        env: &mut Env,
        of: StreamNumber,
        answer: Option<Answer>,
    ) -> Option<News> {
        if let Following::Watching { stream, .. } = &self.following
            && *stream == of
            && matches!(
                answer,
                Some(Answer::NotSent | Answer::Refused(_) | Answer::Unavailable)
            )
        {
            self.follow_later(env);
        }
        None
    }

    /// The watch says something; none: it has ended.
    pub(crate) fn watched(
        &mut self,
        env: &mut Env,
        of: StreamNumber,
        watched: Option<Watched>,
    ) -> Option<News> {
        let Following::Watching {
            stream,
            heard,
            loading,
            ..
        } = &mut self.following
        else {
            return None;
        };
        if *stream != of {
            return None;
        }
        *heard = env.now;
        self.heard = env.now;
        if let (Some(buffer), Some(watched)) = (loading.as_mut(), &watched) {
            buffer.push(watched.clone());
            return None;
        }
        match watched {
            Some(Watched::Changed(changed)) if changed.revision > self.snapshot.revision => {
                Arc::make_mut(&mut self.snapshot).apply(&changed);
                Some(News::Snapshot)
            }
            Some(Watched::Changed(_) | Watched::Progress(_)) => None,
            Some(Watched::Resync) | None => {
                self.follow_later(env);
                None
            }
        }
    }

    pub(super) fn load_again(&mut self, env: &mut Env, of: StreamNumber) {
        if let Following::Watching { stream, loading, .. } = &mut self.following
            && *stream == of
        {
            *loading = Some(Vec::new());
            self.call(env, STORE, Request::Load, Pending::Load, CALL_DEADLINE);
            env.timer(self.life, self.clock, LOAD_INTERVAL, Timer::MirrorLoad(of));
        }
    }

    pub(super) fn listen(&mut self, env: &mut Env, of: StreamNumber) {
        let Following::Watching { stream, heard, .. } = &self.following else {
            return;
        };
        if *stream != of {
            return;
        }
        let quiet = env.now.since(*heard);
        let silence = self.clock.lasts(WATCH_SILENCE);
        if quiet >= silence {
            self.follow_later(env);
        } else {
            let at = *heard + silence;
            env.at(at, Event::Timer(self.life, Timer::Silence(of)));
        }
    }

    fn follow_later(&mut self, env: &mut Env) {
        if let Following::Watching { began, .. } = self.following
            && env.now.since(began) > RETRY_MAX
        {
            self.mirror_retry = RETRY_MIN;
        }
        self.following = Following::Sleeping;
        self.mirror_timer += 1;
        let timer = Timer::MirrorRetry(self.mirror_timer);
        env.timer(self.life, self.clock, self.mirror_retry, timer);
        self.mirror_retry = (self.mirror_retry * 2).min(RETRY_MAX);
    }
}
