import os, sys, time
print("python", sys.argv[1:], os.environ.get("PYTHONUNBUFFERED"), flush=True)
time.sleep(1000)
