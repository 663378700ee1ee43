// A cluster of real processes of the binary RINGCAST_BIN, for tests with real clients. Every process ends with the
// test; a failed test prints what they logged.

import { execFile, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const READY_MS = 30_000

/** Of the processes: nothing that is set for the tests configures them. */
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("RINGCAST_")))

/** Ports that are free now, all different. */
async function freePorts(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, () => new Promise((resolve, reject) => {
      const server = createServer().once("error", reject)
      server.listen(0, "127.0.0.1", () => resolve(server))
    })),
  )
  const ports = servers.map((server) => server.address().port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

/** Asks until the answer is true, at most `ms`. */
export async function until(what, ms, look) {
  const end = Date.now() + ms
  for (;;) {
    if (await look()) return
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export class Cluster {
  #nodes = new Map()
  #store
  #folder = mkdtempSync(join(tmpdir(), "ringcast-clients-"))

  /** A coordinator, `topicServers` topic servers and `gateways` gateways gw-1, gw-2, ..., all ready. */
  static async start({ topicServers = 2, gateways = 2 } = {}) {
    const cluster = new Cluster()
    const ports = await freePorts(2 + topicServers * 2 + gateways * 3)
    const address = () => `127.0.0.1:${ports.pop()}`
    const store = address()
    const url = (cluster.#store = `http://${store}`)
    cluster.#start("coordinator", address(), store, [
      "coordinator", "--listen", store, "--data-dir", join(cluster.#folder, "data"),
    ])
    await cluster.ready("coordinator")
    for (let number = 1; number <= topicServers; number++) {
      cluster.#start(`ts-${number}`, address(), undefined, [
        "topic-server", "--id", `ts-${number}`, "--store", url, "--rpc-listen", address(),
        "--expect-topic-servers", String(topicServers), "--limits-profile", "bench",
      ])
    }
    for (let number = 1; number <= gateways; number++) {
      const listen = address()
      cluster.#start(`gw-${number}`, address(), listen, [
        "gateway", "--id", `gw-${number}`, "--store", url, "--listen", listen, "--rpc-listen", address(),
        "--limits-profile", "bench",
      ])
    }
    for (const name of cluster.#nodes.keys()) await cluster.ready(name)
    return cluster
  }

  #start(name, admin, listen, args) {
    const node = { name, admin, listen, args: [...args, "--admin-listen", admin], log: "", ended: undefined }
    this.#nodes.set(name, node)
    this.#spawn(node)
  }

  #spawn(node) {
    node.ended = undefined
    node.process = spawn(process.env.RINGCAST_BIN, node.args, { env: ENVIRONMENT, stdio: ["ignore", "pipe", "pipe"] })
    for (const stream of [node.process.stdout, node.process.stderr]) stream.on("data", (data) => (node.log += data))
    node.exit = new Promise((resolve) => node.process.once("exit", (code, signal) => {
      node.ended = signal ?? code
      resolve()
    }))
  }

  /** Waits until /readyz says 200. */
  async ready(name) {
    const node = this.#nodes.get(name)
    await until(`${name} to be ready`, READY_MS, async () => {
      if (node.ended !== undefined) throw new Error(`${name} has ended: ${node.ended}\n${node.log}`)
      try {
        return (await fetch(`http://${node.admin}/readyz`)).status === 200
      } catch {
        return false
      }
    })
  }

  /** Where phoenix.js connects. */
  socket(gateway) {
    return `ws://${this.#nodes.get(gateway).listen}/socket`
  }

  /** What a command of the binary answers. */
  async #ask(...args) {
    const { stdout } = await promisify(execFile)(process.env.RINGCAST_BIN, [...args, "--store", this.#store, "-o", "json"], {
      env: ENVIRONMENT,
    })
    return JSON.parse(stdout)
  }

  /** The topic server that owns a topic. */
  async owner(topic) {
    return (await this.#ask("ring", "owner", topic)).owner
  }

  /** Moves a topic's slot to this topic server. */
  async move(topic, to) {
    const { plan } = await this.#ask("ring", "plan", "--pin", `${topic}=${to}`)
    await this.#ask("ring", "commit", String(plan))
  }

  /** SIGKILL: nothing is flushed, nobody is told. */
  async kill(name) {
    const node = this.#nodes.get(name)
    node.process.kill("SIGKILL")
    await node.exit
  }

  /** SIGTERM: clients are sent away. */
  async terminate(name) {
    const node = this.#nodes.get(name)
    node.process.kill("SIGTERM")
    await node.exit
    return node.ended
  }

  /** Again, with the same id and ports. */
  async startAgain(name) {
    this.#spawn(this.#nodes.get(name))
    await this.ready(name)
  }

  /** Ends everything; throws if one had panicked. */
  async stop({ failed = false } = {}) {
    for (const node of this.#nodes.values()) if (node.ended === undefined) node.process.kill("SIGKILL")
    for (const node of this.#nodes.values()) await node.exit
    rmSync(this.#folder, { recursive: true, force: true })
    for (const node of this.#nodes.values()) {
      if (failed) console.error(`==== ${node.name}\n${node.log.split("\n").slice(-80).join("\n")}`)
      if (node.log.includes("panicked at")) throw new Error(`${node.name} panicked:\n${node.log}`)
    }
  }
}
