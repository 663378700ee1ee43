/** Why a join or a publish was refused or given up. */

/** Code of the server's `timeout`: the only refusal after which the publish may have happened. */
const TIMEOUT_CODE = 5040

export class RingcastError extends Error {
  /**
   * @param {string} reason
   * @param {Omit<import("./index.js").RingcastErrorDetail, "reason"> & { message?: string, cause?: unknown }} [detail]
   */
  constructor(reason, detail = {}) {
    super(detail.message ?? reason, detail.cause === undefined ? undefined : { cause: detail.cause })
    this.name = "RingcastError"
    this.reason = reason
    this.code = detail.code
    this.retryable = detail.retryable ?? false
    this.unknown = detail.unknown ?? false
    this.retryAfterMs = detail.retryAfterMs
    this.msgId = detail.msgId
    this.response = detail.response
  }

  /**
   * The error reply of a server. Its shape is the application's own where the server is not a Ringcast, so nothing is
   * taken for granted.
   * @param {any} response
   */
  static fromReply(response) {
    const field = (/** @type {string} */ name, /** @type {string} */ type) =>
      response !== null && typeof response === "object" && typeof response[name] === type ? response[name] : undefined
    const code = field("code", "number")
    return new RingcastError(typeof response === "string" ? response : field("reason", "string") ?? "error", {
      code,
      retryable: field("retryable", "boolean") ?? false,
      unknown: code === TIMEOUT_CODE,
      retryAfterMs: field("retry_after_ms", "number"),
      response,
    })
  }
}
