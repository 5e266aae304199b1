// What is in a document, and random edits of it. Roots: text, array, map, xml.
import * as Y from 'yjs'

export const roots = (doc, text = 'text') => [
  doc.getText(text), doc.getArray('array'), doc.getMap('map'), doc.getXmlFragment('xml')
]

// The same form as documents.py gives: shared types are tagged, adjacent runs are joined.
export const contents = (doc, text) => roots(doc, text).map(shared)

const shared = (value) => {
  if (value instanceof Y.XmlElement) {
    return ['element', value.nodeName, value.getAttributes(), value.toArray().map(shared)]
  }
  if (value instanceof Y.XmlFragment) return ['xml', value.toArray().map(shared)]
  if (value instanceof Y.Text) return ['text', runs(value)] // XmlText is one too
  if (value instanceof Y.Array) return ['array', value.toArray().map(shared)]
  if (value instanceof Y.Map) {
    const entries = [...value.keys()].map((key) => [key, shared(value.get(key))])
    return ['map', Object.fromEntries(entries)]
  }
  return ['value', plain(value)]
}

const plain = (value) => {
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString('hex') }
  if (Array.isArray(value)) return value.map(plain)
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).map(([key, inner]) => [key, plain(inner)])
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)))
  }
  return value
}

const runs = (text) => {
  const joined = []
  for (const { insert, attributes = {} } of text.toDelta()) {
    const kept = Object.entries(plain(attributes)).filter(([, value]) => value !== null)
    const last = joined[joined.length - 1]
    const marks = JSON.stringify(kept)
    if (typeof insert === 'string' && last?.text !== undefined && last.marks === marks) {
      last.text += insert
    } else if (typeof insert === 'string') {
      joined.push({ text: insert, marks, kept })
    } else {
      joined.push({ embed: insert instanceof Y.AbstractType ? shared(insert) : plain(insert), kept })
    }
  }
  return joined.map((run) => [run.text ?? ['embed', run.embed], Object.fromEntries(run.kept)])
}

// Random edits

export const random = (seed) => { // mulberry32: numbers below `bound`, the same on every machine
  let state = seed >>> 0
  return (bound) => {
    state = (state + 0x6D2B79F5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound
  }
}

const WORDS = ['a', 'hello ', '你好', '📊', 'é', '\n', 'x'.repeat(30), '🧑‍🤝‍🧑', 'שלום']
const MARKS = [{ bold: true }, { bold: null }, { link: { href: 'x', n: [1, 2] } }]
const VALUES = [
  1, -3, 2 ** 40, 1.5, true, false, null, 'text 你', new Uint8Array([0, 255]),
  [1, [2, { k: null }]], { a: { b: [1.25, 'ü'] } }
]

export const edit = (doc, pick) => doc.transact(() => {
  const [text, array, map, xml] = roots(doc)
  for (let times = 1 + pick(3); times > 0; times--) {
    const kind = pick(6)
    if (kind < 3) editText(text, pick)
    else if (kind === 3) editArray(array, pick)
    else if (kind === 4) editMap(map, pick)
    else editXml(xml, pick)
  }
})

const one = (values, pick) => values[pick(values.length)]

const nested = (pick) => {
  const kind = pick(3)
  if (kind === 0) return new Y.Text('nested ü')
  if (kind === 1) return Y.Array.from([1, 'two'])
  return new Y.Map([['k', 'v'], ['t', new Y.Text('deep')]])
}

const boundaries = (text) => { // never within a character above U+FFFF
  const places = [0]
  for (const { insert } of text.toDelta()) {
    const pieces = typeof insert === 'string' ? [...insert] : ['e']
    for (const piece of pieces) places.push(places[places.length - 1] + piece.length)
  }
  return places
}

const editText = (text, pick) => {
  const places = boundaries(text)
  const first = pick(places.length)
  const last = Math.min(places.length - 1, first + 1 + pick(5))
  const [at, length] = [places[first], places[last] - places[first]]
  const action = pick(20)
  if (action < 11 || length === 0) text.insert(at, one(WORDS, pick))
  else if (action < 16) text.delete(at, length)
  else if (action < 19) text.format(at, length, one(MARKS, pick))
  else text.insertEmbed(at, { image: 'a.png', size: [1, 2] })
}

const editArray = (array, pick) => {
  const action = pick(10)
  if (action < 5 || array.length === 0) array.insert(pick(array.length + 1), [one(VALUES, pick)])
  else if (action < 6) array.insert(pick(array.length + 1), [nested(pick)])
  else if (action < 8) array.delete(pick(array.length))
  else descend(array.get(pick(array.length)), pick)
}

const editMap = (map, pick) => {
  const key = one(['a', 'b', 'ключ'], pick)
  const action = pick(10)
  if (action < 5) map.set(key, one(VALUES, pick))
  else if (action < 7) map.set(key, nested(pick))
  else if (action < 8) map.delete(key)
  else descend(map.get(key), pick)
}

const descend = (value, pick) => {
  if (value instanceof Y.Text) editText(value, pick)
  else if (value instanceof Y.Array) editArray(value, pick)
  else if (value instanceof Y.Map) editMap(value, pick)
}

const editXml = (parent, pick) => {
  const action = pick(10)
  if (action < 4 || parent.length === 0) {
    const element = new Y.XmlElement('p')
    element.setAttribute('class', 'é')
    element.insert(0, [new Y.XmlText('text')])
    parent.insert(pick(parent.length + 1), [element])
  } else if (action < 5) {
    parent.delete(pick(parent.length))
  } else {
    const child = parent.get(pick(parent.length))
    if (child instanceof Y.XmlText) child.insert(0, one(WORDS, pick))
    else if (pick(5) === 0) child.setAttribute('id', one(['1', 'zwei'], pick))
    else editXml(child, pick)
  }
}
