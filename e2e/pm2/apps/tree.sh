# Has children that have children.
sleep 1001 &
bash -c 'sleep 1002 & sleep 1003' &
echo "here"
sleep 1004
