// Stock y-websocket providers, told over stdin what to do: one JSON command a line, one
// answer each, when it is done.
import { createInterface } from 'node:readline'
import { WebSocket } from 'ws'
import { WebsocketProvider as Provider1 } from 'y-websocket-1'
import { WebsocketProvider as Provider3 } from 'y-websocket'
import * as Y from 'yjs'
import { contents, edit, random } from './documents.mjs'

const PROVIDERS = { 1: Provider1, 3: Provider3 }
const peers = new Map()
const warnings = []
console.warn = (...said) => warnings.push(said.join(' '))
console.error = console.warn

const commands = {
  open ({ id, version, url, room, ...options }) {
    const doc = new Y.Doc()
    const provider = new PROVIDERS[version](url, room, doc, {
      WebSocketPolyfill: WebSocket, disableBc: true, maxBackoffTime: 200, ...options
    })
    const peer = { doc, provider, closes: [], opened: 0 }
    provider.on('connection-close', (event) => peer.closes.push(event?.code ?? null))
    provider.on('status', ({ status }) => { peer.opened += status === 'connected' ? 1 : 0 })
    peers.set(id, peer)
  },
  status ({ id }) {
    const { provider, closes, opened } = peers.get(id)
    const { synced, wsconnected: connected, shouldConnect: tries } = provider
    return { synced, connected, tries, closes, opened, warnings }
  },
  type ({ id, index, text }) {
    peers.get(id).doc.getText('text').insert(index, text)
  },
  async edit ({ id, seed, steps }) {
    const pick = random(seed)
    for (let step = 0; step < steps; step++) {
      edit(peers.get(id).doc, pick)
      if (pick(4) === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    }
  },
  contents ({ id }) {
    return contents(peers.get(id).doc)
  },
  learn ({ id, updates }) { // by another way; the provider takes it for the relay's own
    const { doc, provider } = peers.get(id)
    for (const update of updates) {
      Y.applyUpdate(doc, new Uint8Array(Buffer.from(update, 'base64')), provider)
    }
  },
  say ({ id, state }) {
    peers.get(id).provider.awareness.setLocalState(state)
  },
  heard ({ id }) {
    const { awareness } = peers.get(id).provider
    const others = [...awareness.getStates()].filter(([client]) => client !== awareness.clientID)
    return others.map(([, state]) => state)
  },
  // A caret, as y-codemirror.next tells of it; indices are those of JavaScript's strings.
  point ({ id, user, anchor, head }) {
    const { doc, provider } = peers.get(id)
    const at = (index) => Y.relativePositionToJSON(
      Y.createRelativePositionFromTypeIndex(doc.getText('text'), index))
    provider.awareness.setLocalStateField('user', user)
    provider.awareness.setLocalStateField('cursor', { anchor: at(anchor), head: at(head) })
  },
  pointed ({ id }) {
    const { doc, provider: { awareness } } = peers.get(id)
    const index = (told) => Y.createAbsolutePositionFromRelativePosition(
      Y.createRelativePositionFromJSON(told), doc)?.index ?? null
    return [...awareness.getStates()]
      .filter(([client, { cursor }]) => client !== awareness.clientID && cursor)
      .map(([, { user, cursor }]) => ({ user, at: [index(cursor.anchor), index(cursor.head)] }))
  },
  connect ({ id }) { peers.get(id).provider.connect() },
  disconnect ({ id }) { peers.get(id).provider.disconnect() },
  close ({ id }) {
    const { doc, provider } = peers.get(id)
    provider.destroy()
    doc.destroy()
    peers.delete(id)
  }
}

const answer = async ({ number, command, ...told }) => {
  const found = (await commands[command](told)) ?? null
  process.stdout.write(JSON.stringify({ number, found }) + '\n')
}

for await (const line of createInterface({ input: process.stdin })) answer(JSON.parse(line))
process.exit(0)
