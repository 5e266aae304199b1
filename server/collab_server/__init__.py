"""The relay: durable logs of rooms, and the readers that follow them."""
