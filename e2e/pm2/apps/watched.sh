# Ends with 0 once the daemon of PM2_HOME watches the folder $1: what is changed earlier is seen by nobody.
inode=$(printf 'ino:%x ' "$(stat -c %i "$1")")
daemon=$(cat "$PM2_HOME/pm2.pid")
for pid in "$daemon" $(cat /proc/"$daemon"/task/*/children); do
  grep -qs "^inotify .*$inode" /proc/"$pid"/fdinfo/* && exit 0
done
exit 1
