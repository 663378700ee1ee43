// What stands before the gateways of an application: one address for all of them, which also serves the application's
// pages. A test says where it leads, and when its connections break.

import { readFile } from "node:fs/promises"
import { createServer, request } from "node:http"
import { extname } from "node:path"

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" }

export class Balancer {
  #cluster
  #files
  #server
  /** The gateway behind /any; undefined while clients are to find nobody. */
  #gateway
  #connections = new Set()
  #muted = false

  /**
   * `/any/socket` leads where `to` says, `/GATEWAY/socket` always to that gateway. `files` are those of the pages:
   * [prefix of the path, that ends in a slash, URL of the folder].
   */
  static async start(cluster, files = []) {
    const balancer = new Balancer()
    balancer.#cluster = cluster
    balancer.#files = files
    balancer.#server = createServer((request, response) => balancer.#answer(request, response))
    balancer.#server.on("upgrade", (request, client, head) => balancer.#upgrade(request, client, head))
    await new Promise((resolve) => balancer.#server.listen(0, "127.0.0.1", resolve))
    return balancer
  }

  get host() {
    return `127.0.0.1:${this.#server.address().port}`
  }

  /** From now on /any leads to this gateway. Connections that are there stay. */
  to(gateway) {
    this.#gateway = gateway
  }

  /** Breaks all connections through /any; who comes back finds nobody until `to`. */
  cut() {
    this.#gateway = undefined
    this.#muted = false
    for (const client of this.#connections) client.destroy()
  }

  /** Until the next `cut` nothing comes from the gateways through /any; what goes to them still arrives. */
  mute() {
    this.#muted = true
  }

  async stop() {
    this.cut()
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  /** Where a path leads: [gateway's host:port, path there, through /any]; undefined if nowhere. */
  #way(url) {
    const [, name, rest] = /^\/([^/]+)(\/socket\/.*)$/.exec(url) ?? []
    if (name === undefined) return undefined
    const gateway = name === "any" ? this.#gateway : name
    return gateway && [new URL(this.#cluster.socket(gateway)).host, rest, name === "any"]
  }

  #upgrade(incoming, client, head) {
    client.on("error", () => client.destroy())
    const way = this.#way(incoming.url)
    if (!way) return client.destroy()
    const [host, path, any] = way
    const outgoing = this.#request(incoming, host, path)
    outgoing.on("error", () => client.destroy())
    outgoing.on("response", (response) => client.end(`HTTP/1.1 ${response.statusCode} No\r\nConnection: close\r\n\r\n`))
    outgoing.on("upgrade", (answer, gateway, first) => {
      if (any) {
        this.#connections.add(client)
        client.on("close", () => this.#connections.delete(client))
      }
      gateway.on("error", () => client.destroy())
      gateway.on("close", () => client.destroy())
      client.on("close", () => gateway.destroy())
      const headers = answer.rawHeaders.map((part, index) => part + (index % 2 === 0 ? ": " : "\r\n")).join("")
      client.write(`HTTP/1.1 101 Switching Protocols\r\n${headers}\r\n`)
      client.write(first)
      gateway.write(head)
      gateway.on("data", (data) => any && this.#muted || client.write(data))
      client.on("data", (data) => gateway.write(data))
    })
    outgoing.end()
  }

  async #answer(incoming, response) {
    const { pathname } = new URL(incoming.url, "http://here")
    const [prefix, folder] = this.#files.find(([prefix]) => pathname.startsWith(prefix)) ?? []
    try {
      if (prefix === undefined) throw new Error("no such file")
      const body = await readFile(new URL(`.${pathname.slice(prefix.length - 1)}`, folder))
      response.writeHead(200, { "content-type": TYPES[extname(pathname)] ?? "application/octet-stream" }).end(body)
    } catch {
      response.writeHead(404).end()
    }
  }

  /** The same request to a gateway; `Host` and `Origin` stay those of the application. */
  #request(incoming, host, path) {
    const [hostname, port] = host.split(":")
    return request({ hostname, port, path, method: incoming.method, headers: incoming.headers })
  }
}
