$| = 1; print "perl @ARGV\n"; sleep 1000;
