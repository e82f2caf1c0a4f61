#!/bin/sh
# Says the time every five seconds. NODE_APP_INSTANCE tells the copies apart.
trap 'echo "clock ${NODE_APP_INSTANCE:-0} stops"; exit 0' INT TERM
while :; do
  echo "clock ${NODE_APP_INSTANCE:-0}: $(date +%T)"
  # In the background and waited for, so that a signal is answered at once.
  sleep 5 & wait $!
done
