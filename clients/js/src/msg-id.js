/** Random message ids. Random, because anonymous clients share one window of ids at the server. */

/** The most bytes the server takes. */
const MSG_ID_BYTES_MAX = 128

/** A new id of 128 random bits, also on pages without https, where there is no `randomUUID`. */
export function newMsgId() {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID()
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("")
}

/** @param {unknown} msgId */
export function isMsgId(msgId) {
  if (typeof msgId !== "string" || msgId === "") return false
  return new TextEncoder().encode(msgId).length <= MSG_ID_BYTES_MAX
}
