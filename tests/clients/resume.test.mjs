// Resume, gaps and publishes that happen once, from Node.

import { readFileSync } from "node:fs"
import { after, before, test } from "node:test"

import { resumable, RingcastError } from "@ringcast/client"
import { Socket } from "phoenix"
import WebSocket from "ws"

import { Balancer } from "./balancer.mjs"
import { Cluster } from "./cluster.mjs"
import { scenarios, Stage } from "./resume.suite.mjs"

const readme = readFileSync(new URL("../../clients/js/README.md", import.meta.url), "utf8")

let cluster
let balancer
let passed = 0

before(async () => {
  cluster = await Cluster.start()
  balancer = await Balancer.start(cluster)
})

after(async () => {
  await balancer?.stop()
  await cluster?.stop({ failed: passed < Object.keys(scenarios).length })
})

for (const [name, run] of Object.entries(scenarios)) {
  test(name, { timeout: 60_000 }, async () => {
    balancer.to("gw-1")
    const base = `ws://${balancer.host}`
    const env = { Socket, resumable, RingcastError, readme, transport: WebSocket }
    const stage = new Stage({ ...env, base, cluster, balancer })
    try {
      await run(stage)
      passed++
    } finally {
      await stage.close()
    }
  })
}
