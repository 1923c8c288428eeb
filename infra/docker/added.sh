# sh added.sh EXTRA: install a step's extra and put what that added to the environment into /opt/added; see Dockerfile.
set -eu
touch /mark
sleep 1
pip install -q -c requirements.lock ".[$1]"
mkdir /opt/added
cd /opt/venv
find . -type f -cnewer /mark | tar -cf - -T - | tar -xf - -C /opt/added
