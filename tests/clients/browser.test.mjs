// Resume, gaps and publishes that happen once, from a page in Chromium: RINGCAST_CHROMIUM, or what the path has.

import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { after, before, test } from "node:test"

import { chromium } from "playwright-core"

import { Balancer } from "./balancer.mjs"
import { Cluster } from "./cluster.mjs"
import { scenarios } from "./resume.suite.mjs"

const NAMES = Object.keys(scenarios)

const folder = (path) => new URL(path, import.meta.url)

let cluster
let balancer
let browser
let passed = 0

before(async () => {
  cluster = await Cluster.start()
  balancer = await Balancer.start(cluster, [
    ["/client/", folder("../../clients/js/")],
    ["/phoenix/", folder("node_modules/phoenix/priv/static/")],
    ["/", folder("./")],
  ])
  const executablePath =
    process.env.RINGCAST_CHROMIUM ?? execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim()
  // Its sandbox does not work for root and in containers; the page is ours.
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] })
})

after(async () => {
  await browser?.close()
  await balancer?.stop()
  await cluster?.stop({ failed: passed < NAMES.length })
})

for (const name of NAMES) {
  test(name, { timeout: 60_000 }, async () => {
    balancer.to("gw-1")
    const page = await browser.newPage()
    try {
      const errors = []
      page.on("pageerror", (error) => errors.push(String(error)))
      await page.exposeFunction("control", (object, method, args) => ({ cluster, balancer })[object][method](...args))
      await page.goto(`http://${balancer.host}/page.html`)
      await page.waitForFunction(() => window.run)
      await page.evaluate((scenario) => window.run(scenario), name)
      assert.deepEqual(errors, [])
      passed++
    } finally {
      await page.close()
    }
  })
}
