/** A place in a topic: offset `offset` of the sequence named `epoch`. Both come from the server; the epoch is opaque. */
export interface Position {
  readonly epoch: string
  readonly offset: number
}

/** What is known of an event beside its payload. */
export interface EventMeta {
  /** Its offset; null if it has none: presence, a server's push, target `one` or `members`, any event of a plain Phoenix. */
  offset: number | null
  /** The epoch of the offset; null on a server that keeps no positions. */
  epoch: string | null
}

export type EventCallback<P = any> = (payload: P, meta: EventMeta) => void

/** Publications `from`..`to` of `epoch`, both included, that will not come by themselves. */
export interface Gap {
  /** After `epoch_changed` it is the new one. */
  epoch: string
  from: number
  /** 0 after `epoch_changed`: nothing of the new epoch is missing; what followed the old position is unknown. */
  to: number
  /**
   * `history_trimmed`, `epoch_changed`, `slow_consumer`, `overload`; or `skipped_binary`: a binary publication that this
   * transport (long poll) cannot carry.
   */
  reason: string
}

/** The application's view of the topic is no longer complete: load it anew. */
export interface Reload {
  /** Events after this position follow; absent on a server that keeps no positions. */
  epoch?: string
  offset?: number
  /** false: the server could not continue; undefined: it keeps no positions (a plain Phoenix). */
  recovered: false | undefined
  /** The first join of this object. */
  first: boolean
  /** The gap that caused it, where no `onGap` was given. */
  gap?: Gap
}

export interface JoinReply {
  epoch?: string
  offset?: number
  /** true: everything missed follows, once, in order. false: reload. undefined: the server keeps no positions. */
  recovered: boolean | undefined
  /** The whole reply of the server. */
  response: any
}

/** `sessionStorage`, `localStorage`, or anything alike. */
export interface PositionStore {
  getItem(key: string): string | null
  setItem(key: string, value: string): void
  removeItem(key: string): void
}

export interface ResumableOptions {
  /** From where to go on; comes before what the store has. Without either the first join is from now. */
  position?: Position | null
  /** Where the position survives the page. Right only if what was made of the messages survives there as well. */
  store?: PositionStore
  /** The position has moved, and the callbacks have handled what moved it. null: the server keeps no positions. */
  onPosition?: (position: Position | null) => void
  /** Publications are missing. Without it, `onReload` is called. */
  onGap?: (gap: Gap) => void
  /** At each join that was not recovered, the first one included. */
  onReload?: (reload: Reload) => void
  /** A join or rejoin was refused. phoenix.js goes on asking until `leave`. */
  onRefused?: (error: RingcastError) => void
  /** Publishes that may wait; more are refused with `queue_full`. Default 1,000. */
  queueMax?: number
}

export type Target = "all" | "others" | "one" | { members: string[] }

export interface PublishOptions {
  /** 1 to 128 bytes; two publishes of one id within 120 s are one. Default: a random one. */
  msgId?: string
  /** Who gets it. Default: all. */
  target?: Target
  /** Milliseconds until it is given up, waiting and all tries included. Default 30,000. */
  timeout?: number
  /** How often it is sent again at most. Default: until the timeout. */
  retries?: number
}

export interface PublishReply {
  /** Absent on a server that keeps no positions. */
  epoch?: string
  /** null for targets `one` and `members` and for ephemeral events. */
  offset?: number | null
  /** An earlier try of this msgId was published; this is its place. */
  dup?: boolean
  /** How many got it; only where the offset is null. */
  matched?: number
  /** Copies that hold it; only while they are fewer than configured. */
  durability?: number
}

export interface RingcastErrorDetail {
  reason: string
  code?: number
  retryable?: boolean
  unknown?: boolean
  retryAfterMs?: number
  msgId?: string
  response?: unknown
}

/** Why a join or a publish was refused or given up. */
export class RingcastError extends Error {
  constructor(reason: string, detail?: Omit<RingcastErrorDetail, "reason"> & { message?: string; cause?: unknown })
  /** The server's reply, whatever its shape. */
  static fromReply(response: unknown): RingcastError
  /** The server's reason, or `timeout`, `disconnected`, `queue_full`, `left`, `closed`, `unsupported`, `unknown_outcome`. */
  readonly reason: string
  /** The server's code; absent if the reason is this package's own. */
  readonly code: number | undefined
  /** The same publish, with the same msgId, may succeed later. */
  readonly retryable: boolean
  /** It may have been published, or may yet be. */
  readonly unknown: boolean
  readonly retryAfterMs: number | undefined
  /** Of the publish; to try again with. */
  readonly msgId: string | undefined
  /** The server's whole reply. */
  readonly response: unknown
}

/** A channel that goes on where it was. */
export interface Resumable<C extends ChannelLike = ChannelLike> {
  /** The phoenix.js channel: for presence, state and pushes of one's own. Its callbacks hear frames as they come. */
  readonly channel: C
  /** Up to where the application has heard; null before the first join and on a server that keeps no positions. */
  readonly position: Position | null
  /** Of the last join. */
  readonly recovered: boolean | undefined
  /**
   * Joins, once; phoenix.js rejoins by itself. Rejects if the join is refused for good, and when the channel ends; waits
   * as long as joins are refused for a while only.
   */
  join(timeout?: number): Promise<JoinReply>
  /** Leaves for good. What waits to be published is refused with `left`. To return, make a new one with this position. */
  leave(timeout?: number): Promise<void>
  on<P = any>(event: string, callback: EventCallback<P>): number
  /** Without a ref: all of the event. */
  off(event: string, ref?: number): void
  /**
   * Publishes once, in the order of the calls. The payload must stay as it is until the promise is settled. An
   * `ArrayBuffer` is sent as it is, and never twice.
   */
  publish(event: string, payload: object, options?: PublishOptions): Promise<PublishReply>
}

/** What this package needs of a phoenix.js push. */
export interface PushLike {
  receive(status: "ok" | "error" | "timeout", callback: (response?: any) => any): PushLike
}

/** What this package needs of a phoenix.js channel. */
export interface ChannelLike {
  readonly topic: string
  timeout?: number
  onMessage(event: string, payload: any, ref: any, ...rest: any[]): any
  join(timeout?: number): PushLike
  leave(timeout?: number): PushLike
  push(event: string, payload: object, timeout?: number): PushLike
}

/** What this package needs of a phoenix.js socket. */
export interface SocketLike<C extends ChannelLike = ChannelLike> {
  channel(topic: string, params?: object | (() => object)): C
  isConnected(): boolean
}

/**
 * A channel of `socket` that remembers its position in the topic, asks for what it missed at every rejoin, drops what it
 * has seen, and publishes each message once. Register callbacks before `join`.
 */
export function resumable<C extends ChannelLike>(
  socket: SocketLike<C>,
  topic: string,
  params?: object | (() => object),
  options?: ResumableOptions,
): Resumable<C>
