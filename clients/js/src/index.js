/**
 * Phoenix channels that go on where they were, on a Ringcast cluster.
 *
 * {@link resumable} makes a channel of npm `phoenix` that remembers its position in the topic, asks for what it missed at
 * every rejoin, says where something is missing, and publishes each message once however often it has to try.
 *
 * *Invariant:* to the callbacks, offsets of one epoch only rise, and what is missing between two of them was reported
 * before the second, or is the application's own publish to `others`.
 *
 * Leaves out: connecting, heartbeats, reconnecting and rejoining, which are phoenix.js's; what the application does about
 * a gap.
 */

export { RingcastError } from "./error.js"
export { resumable } from "./resumable.js"
