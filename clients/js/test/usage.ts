// Compiled, never run: what an application writes has the types it expects, with and without the types of phoenix.js.

import { Presence, Socket } from "phoenix"
import { resumable, RingcastError } from "@ringcast/client"
import type { ChannelLike, Gap, Position, PublishReply, Resumable, SocketLike } from "@ringcast/client"

interface Message {
  text: string
}

const socket = new Socket("/socket", { params: () => ({ token: "t" }) })

export async function chat(saved: Position | null): Promise<void> {
  const room = resumable(socket, "topics:matrix", () => ({ nick: "a" }), {
    position: saved,
    store: sessionStorage,
    onPosition: (position) => position && console.log(position.epoch.length, position.offset + 1),
    onGap: ({ from, to, reason }: Gap) => console.log(to - from, reason.length),
    onReload: ({ recovered, first, epoch, offset, gap }) => {
      const no: false | undefined = recovered
      console.log(no, first, epoch?.length, (offset ?? 0) + 1, gap?.reason)
    },
    onRefused: (error) => console.log(error.reason, error.code),
    queueMax: 10,
  })
  new Presence(room.channel) // the wrapped channel keeps its own type

  const ref: number = room.on<Message>("message", ({ text }, { epoch, offset }) => {
    const where: [string | null, number | null] = [epoch, offset]
    console.log(text.length, where)
  })
  const { recovered, response } = await room.join()
  const known: boolean | undefined = recovered
  console.log(known, response.anything)

  try {
    const reply: PublishReply = await room.publish("message", { text: "hi" } satisfies Message, {
      msgId: "m", target: { members: ["a"] }, timeout: 1_000, retries: 3,
    })
    const place: [string?, (number | null)?] = [reply.epoch, reply.offset]
    console.log(place, reply.dup === true, reply.matched)
  } catch (error) {
    if (!(error instanceof RingcastError)) throw error
    if (error.retryable) await room.publish("message", { text: "hi" }, { msgId: error.msgId })
  }
  await room.publish("draw", new ArrayBuffer(1))

  room.off("message", ref)
  await room.leave()
}

export function withoutPhoenixTypes(any: SocketLike): Resumable<ChannelLike> {
  return resumable(any, "topics:matrix")
}

export function whatMustNotCompile(room: Resumable): void {
  // @ts-expect-error a target is one of four
  void room.publish("message", {}, { target: "some" })
  // @ts-expect-error a payload is an object
  void room.publish("message", "text")
  // @ts-expect-error a position has both parts
  resumable(socket, "topics:matrix", {}, { position: { epoch: "e" } })
  // @ts-expect-error the position is the server's to move
  room.position = null
}
