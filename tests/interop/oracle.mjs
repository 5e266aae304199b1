// What does Yjs make of updates? One question a line, one answer a line.
import { createInterface } from 'node:readline'
import * as Y from 'yjs'
import { contents, edit, random, roots } from './documents.mjs'

const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'))

const read = (updates, text) => {
  const doc = new Y.Doc()
  for (const update of updates) Y.applyUpdate(doc, bytes(update), 'remote')
  return { contents: contents(doc, text), pending: doc.store.pendingStructs !== null }
}

// Edit on top of `known`, with undo, while `later` is not known yet; then learn that too, which
// makes Yjs delete formatting marks that became useless. `emitted`: what, after how much of `later`.
const write = ({ client, known, later, seed, steps }) => {
  const doc = new Y.Doc()
  for (const update of known) Y.applyUpdate(doc, bytes(update), 'remote')
  doc.clientID = client
  const emitted = []
  let learnt = 0
  doc.on('update', (update, origin) => {
    if (origin !== 'remote') emitted.push([learnt, Buffer.from(update).toString('base64')])
  })
  const undo = new Y.UndoManager(roots(doc), { captureTimeout: 0 })
  const pick = random(seed)
  for (let step = 0; step < steps; step++) {
    const action = pick(10)
    if (action === 0) undo.undo()
    else if (action === 1) undo.redo()
    else edit(doc, pick)
  }
  for (const update of later) {
    learnt++
    Y.applyUpdate(doc, bytes(update), 'remote')
  }
  const whole = Buffer.from(Y.encodeStateAsUpdate(doc)).toString('base64')
  return { emitted, whole, contents: contents(doc) }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { number, logs, text, ...task } = JSON.parse(line)
  const found = { read: logs.map((log) => read(log, text)) }
  if (task.known) found.written = write(task)
  process.stdout.write(JSON.stringify({ number, found }) + '\n')
}
